"""The gated linear recurrent unit of Hawk and Griffin."""
