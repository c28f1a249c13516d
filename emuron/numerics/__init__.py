"""What a number is: dtypes, rounding, microscaling, array back ends; only here are values rounded."""
