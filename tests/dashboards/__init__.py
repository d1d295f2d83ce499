"""The Grafana dashboards as they are written; `make dashboards` makes deploy/grafana of them.

What a panel says is in one module for each row (`progress`, `errors`, ...), in words of `parts` and `promql`; only
`board` knows Grafana's own words. The thresholds drawn are those of the alert rules, read from their file.
"""
