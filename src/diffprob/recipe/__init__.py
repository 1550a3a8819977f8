"""What a run is made of, as text: components by name, recipes, and the folder a trained run lives in."""
