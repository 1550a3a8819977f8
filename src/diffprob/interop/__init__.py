"""Other libraries' models: read into diffprob, and written for them."""
