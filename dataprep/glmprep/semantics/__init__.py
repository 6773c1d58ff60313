"""What texts are about: sentences, vectors of them, and how close two of them are."""
