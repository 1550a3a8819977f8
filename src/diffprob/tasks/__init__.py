"""What can be done with a model, each a frozen request, one function and a typed result: the layer below the doors."""
