"""Small modules that take the place of the heavy ones in the checkout that the tests make."""
