"""How organised finished runs are: tables and figures, a baseline beside locality guidance throughout."""
