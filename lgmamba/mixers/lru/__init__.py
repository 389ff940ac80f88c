"""The linear recurrent unit: no step differs from another."""
