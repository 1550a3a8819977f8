"""How dense a model's distribution is where an image lies: one number per image, by many proxies."""
