"""``python -m avsr``."""

from avsr.cli import main

if __name__ == "__main__":
    main()
