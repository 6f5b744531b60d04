"""dvaojax's methods inside other people's trainers, a module for each of them."""
