"""What a number is: dtypes, rounding, microscaling and back ends; only here are values rounded."""
