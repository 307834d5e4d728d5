"""What a training needs besides the cells: the output layer, losses, updates, parameters to begin with."""
