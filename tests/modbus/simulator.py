"""A Modbus server that is not ours: pymodbus' simulator, for the tests of hark.

    simulator.py PORT UNIT...    these units behind 127.0.0.1, and no other

Its tables are distinct. Holding registers: a float of 32 bits, 7.25, from 0 on,
an integer of 64 bits, -5, from 10 on. Input register n is 100 + n.
"""

import asyncio
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


def device(unit):
    bits = [SimData(0, values=[False, True] * 8, datatype=DataType.BITS)]
    holding = [
        SimData(0, values=7.25, datatype=DataType.FLOAT32),
        SimData(10, values=-5, datatype=DataType.INT64),
    ]
    inputs = [SimData(0, values=[100 + n for n in range(20)], datatype=DataType.REGISTERS)]
    return SimDevice(unit, simdata=(bits, bits, holding, inputs))


async def main():
    units = [device(int(unit)) for unit in sys.argv[2:]]
    server = ModbusTcpServer(units, address=("127.0.0.1", int(sys.argv[1])))
    await server.listen()
    print("ready", flush=True)
    await server.serving


asyncio.run(main())
