"""Write files atomically, and lock them."""
