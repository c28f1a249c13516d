"""What an instruction computes, forbids and costs; a Program is instructions in order."""
