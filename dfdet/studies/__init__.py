"""A finished detector and files in; what shows how it works, in pictures, out."""
