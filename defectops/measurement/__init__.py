"""From probability maps to objects, quantities and their agreement with labels."""
