/* Of MSVC; for cpu.c, which has what it declares. */
