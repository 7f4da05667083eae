"""`python -m mtnas`, which is also how torchrun starts it."""

from mtnas.cli import main

if __name__ == "__main__":
    main()
