"""The store as one file, written while it is used, and put back."""
