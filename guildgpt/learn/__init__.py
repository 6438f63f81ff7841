"""The circle: from members' votes to the next version, which they prefer or which is dropped."""
