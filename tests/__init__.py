"""Tests of hfd and pipelines, in folders that mirror both packages; what several of them need is in tests.support."""
