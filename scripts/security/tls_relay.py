"""Gives a tool that speaks plain HTTP a client certificate: each connection to it is one TLS connection to the server.

python3 tls_relay.py --home DIR --server NAME --address HOST:PORT --port PORT
"""
import argparse, asyncio, pathlib, ssl

parser = argparse.ArgumentParser(description=__doc__)
for option in ("--home", "--server", "--address", "--port"):
    parser.add_argument(option, required=True)
arguments = parser.parse_args()
home = pathlib.Path(arguments.home)
tls = ssl.create_default_context(cafile=home / "web-ipc-ca.crt")
tls.load_cert_chain(home / "localhost.crt", home / "localhost.key")

async def copy(reader, writer):
    try:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

async def relay(reader, writer):
    host, _, port = arguments.address.rpartition(":")
    try:
        server = await asyncio.open_connection(host, int(port), ssl=tls, server_hostname=arguments.server)
    except OSError:
        return writer.close()
    await asyncio.gather(copy(reader, server[1]), copy(server[0], writer))

async def main():
    listener = await asyncio.start_server(relay, "127.0.0.1", int(arguments.port), backlog=1000)
    await listener.serve_forever()

asyncio.run(main())
