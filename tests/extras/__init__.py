"""Tests that need an extra; `make test-all` installs them all and runs these."""
