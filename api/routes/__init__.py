"""One file a resource. A route checks the request, calls the store in a thread, and gives back an object of :mod:`api.objects`."""
