"""The paper's tables and figures from any set of runs, ours beside the published ones, and what follows from them."""
