"""What every program of the stack needs: a log, a clock, a server that ends in order, strict input."""
