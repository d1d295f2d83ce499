"""What takes minutes or downloads: `make test-deploy`. Real servers, a real Prometheus, real packaging tools."""
