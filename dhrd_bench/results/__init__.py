"""Records: their form, their store, and the long table made of them."""
