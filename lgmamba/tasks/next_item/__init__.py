"""Next item: a user's history is read, item by item; told at every step is which item comes next."""
