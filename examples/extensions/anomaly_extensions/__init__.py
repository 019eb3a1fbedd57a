"""One extension of each kind. Each module is all that such an extension takes."""
