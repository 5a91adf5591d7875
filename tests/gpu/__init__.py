"""What only a GPU can show: `make gpu`. On a machine without one the same code runs on the CPU, as far as it can."""
