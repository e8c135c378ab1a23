"""What the base model adds to a diagnosis."""
