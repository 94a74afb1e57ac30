"""Where render servers come from: the seam, and the fleet of local processes. The only place that starts servers."""
