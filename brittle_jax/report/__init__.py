"""What a person looks at after a run: a page with pictures before numbers."""
