"""What a program is: kinds of arguments, operations, the machine, its text and its bytes."""
