//! The runtime: workers, files, sockets, clock, spawn, behind one facade that the simulator also implements.
