"""For tests: contract suites, stores and disks that fail, a simulated clock. Shipped, so that others can test with it."""
