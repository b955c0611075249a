"""Comparisons, each taken side by side in one run. docs/performance.md says what limits what."""
