"""What a run looks like to a person: the page, its figures and curves."""
