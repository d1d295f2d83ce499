"""Workloads with a memory, and checkers that compare what they remember with what both databases hold."""
