"""Tests of the launcher, with small programs in the place of the product."""
