"""Commands that make what ships with the course: weights, measurements, the front, notebooks and pages."""
