//! Container output: the log writer role, and reading.
