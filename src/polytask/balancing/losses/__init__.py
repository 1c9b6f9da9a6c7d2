"""Balancers that see loss values only; their step costs what plain summation costs."""
