"""For tests: contract suites, stores and disks that fail, simulated clocks. Shipped, for others to test with."""
