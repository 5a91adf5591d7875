"""For whoever runs the service: tenants and their API keys, the worker processes, how the work goes, and how fast it went lately.

What enters: what a worker says of itself at a heartbeat, an operator's order to drain. What leaves: counts, ids and times over all tenants,
for the metrics, `textmill workers` and `textmill doctor`; never content. No work hangs on any of it, but for the keys.
"""
