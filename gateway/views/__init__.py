"""What routes and sockets do between the request and the bus."""
