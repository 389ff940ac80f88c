"""`python -m lgmamba` and the console script `lgmamba`."""

from lgmamba.cli import main

if __name__ == "__main__":
    main()
