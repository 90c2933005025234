"""Side-by-side benchmarks: peers start in the same run, alternate with us, and ratios are printed."""
