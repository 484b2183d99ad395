"""One module per dataset: what is in its download, and how it is laid out."""
