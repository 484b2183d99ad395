"""Reading and writing of videos, images, packed frames and archives."""
