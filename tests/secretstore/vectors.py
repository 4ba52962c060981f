"""What others computed, to hold our cryptography against.

`PASSWORDS`, `STRETCHED`, `TEXT` and `ACCOUNT` are Bitwarden's own (the tests of its sdk-internal). The RSA ones were
made with the openssl program: `genrsa`, and `pkeyutl -encrypt` with OAEP of either hash, of the bytes 0 to 63.
"""

#: How the key is derived, and the master key that comes of it.
PASSWORDS = (
    ((0, 10_000), "1f4f68e29647b15ac250acd1118184518aa745a7fe95021b27c5402a16c3564b"),
    ((1, 4, 32, 2), "cff0e1b1a213a34c626ab3afe00911f01493ed2ff6968db83ee183f23335e1f2"),
)
PASSWORD, SALT = "67t9b5g67$%Dh89n", "test_key"

#: What the first of these master keys is stretched to.
STRETCHED = (
    "6f1fb22dee9825728fd77c5387adc3178e8678f93d84a3b671c5bdccbc15ed60",
    "dd7fceea651bca265634221c4e1cb910303d7fa6d1f7c257e81a3055c1f9b39b",
)

#: A key, an encrypted string, and what it says.
TEXT = (
    "sJnO8rVi0dTwND43n0T9x7665s8mVUYNAaJ4nm7gx1iia1I7947URL60nwfIHaf9QJePO4VkNN0oT9jh4iC6aA==",
    "2.kTtIypq9OLzd5iMMbU11pQ==|J4i3hTtGVdg7EZ+AQv/ujg==|QJpSpotQVpIW8j8dR/8l015WJzAIxBaOmrz4Uj/V1JA=",
    bytes([1, 2, 3, 4, 5]),
)

#: An account: address, password, iterations, and the user's key as it is encrypted; and the key as we found it.
ACCOUNT = (
    "test@bitwarden.com",
    "asdfasdfasdf",
    100_000,
    (
        "2.u2HDQ/nH2J7f5tYHctZx6Q==|NnUKODz8TPycWJA5svexe1wJIz2VexvLbZh2RDfhj5VI3wP8ZkR0Vicvdv7oJRyLI1GyaZDBCf9CTBun"
        "RTYUk39DbZl42Rb+Xmzds02EQhc=|rwuo5wgqvTJf3rgwOUfabUyzqhguMYb3sGBjOYqjevc="
    ),
    "w2LO+nwV4oxwswVYCxlOfRUseXfvU03VzvKQHrqeklPgiMZrspUe6sOBToCnDn9Ay0tuCBn8ykVVRb7PWhub2Q==",
)

#: A private key (PKCS #8), and the bytes 0 to 63 encrypted for it.
RSA_KEY = (
    "MIIEvwIBADANBgkqhkiG9w0BAQEFAASCBKkwggSlAgEAAoIBAQCrZVT2riJTariUKWEKPzE7gjgGct6qzUYlAeQ+njixA4Ba+i0l"
    "KyXi5aa3PIoSMlQ7SRcuIwd3n42/G5tMRzXMSI/iDodYTU7H5opesuZx75MX0+NMl6miEsCYgN/1nRTjvn9EihX/lw+ml2iwX6vO"
    "3zTP/+OXkydCdA8ftPVm0Gtp/15vsx4InC2oypGK1MsDksayxlfC4JDM0YW9GS8YMmhl2It6xvU+5BqUfT28SXYoqDWh8lPlJNWY"
    "ZNspJcYDU+tgpYSaqcB2N9Tu97dzcTPpsCB+mFrjOu7mPtF1lLQolYCENWJeYCkO7P/SLerojT+uPUXllnQMi22cUL4fAgMBAAEC"
    "ggEATKmG7s1lkh0mkTLO8lfgjAcLSysfGJO3f78QWcfIgLiZtVe4UKszh4ED6Gq+MTRsw5XGNf86DFIEA0p0VJJ3aDe+j7TC6gau"
    "KbCfDIuFksm/Z8WBIhWmLNWpaq0eP4xytwlSgJQpEcj+GZwYmec5AE+LHkwM/xO1WD50M1DsAP+U5g8ckanR3LrlbcoEcyq2Lw+K"
    "nTWMdkC03nrzQ6XvyLVDHvd7PQu669wv+zziulFALjo9IZ78q/aKp7kRIgR1OqZwgq3je8D9a2/gO32VwkNAfxRpmlKBbgrijUIC"
    "eS9VDQYOrzTxBf3LL1kZ484Sw5qwr/IM/49eDvGZu//PjQKBgQDoBX1IaG9G+8To9z9v1AVR3x31OcxXkJuayeR09DvWEffa/nts"
    "hap+rCJsHzkDJV4F7qhpamIncM+rQ9WkzUi0JFUVry/Y/GC+/F24tGZI9E5jJ4xTaR/d91h/PRioM0Nebrw1/stXHy8zLAdk+yyF"
    "Kvvyk6mp1Bw1DSMKCqpWpQKBgQC9G+RFpMTR8xWhbNcNLkiEL//mvFRsLxAVu6o2ASuIOLXgA2TovL9eJ45NHCigwdfrdMzm6UYI"
    "/4doAqu8dL95rDTIVJVL0Yb/KHBQqNotQ/bZsr+YVD1K09beRh9+6HI/hwnI3JnO24VmaX15BF/oQrojrCS71HJnFIuHmeXqcwKB"
    "gQDLui40iwbSdDWFPbxk6+0z406ByZtkc+Q9uPKxwtZbdHGGyBcFxiRbj7e16oB8A66YVONplHDVItgmEK0iROKG0rQnEylXRNuK"
    "Nzvv9+8sNeAybkJn5xGFLC93oeTppAGOhHscijpvqEEglJN1lpqT35dUe1Xpega+imdu5MiGxQKBgQCT0Sh2U5vRLDxdKLFUSTg/"
    "szFJDy7CPWtKQZ2Dhxia6xEnICARV/ARzcOKfJc5SSvYjTzYxcCLqgkSgPvyXCOLHNNJP+xPDmGCMv7P3Zxkw3pBolnm3Pnn8nxC"
    "0/csgM9E3u4EBoNnUOoOKij8njHFX9sVpSo1c5NVBZcnEGHKBwKBgQCOmxEDu+3ieysfHENR6cyChMmDckomdHvHludlmjJuAtJt"
    "6vORDdBjCJ5nOEuwhvyP+SqgiL/qyLG6EyfEZ9deVvPzd6qt4MI2W/k9V4wOjAL1/74WeVxtxLvi+vUVTcYWFr8zMoCM7VrFVqnf"
    "YhbcOws8GP3eTnc97BoCz8jbww=="
)
RSA_SHA1 = (
    "4."
    "nK5sHg0bHhrhB6uy05/FOEcZRNsAbbuPDGGVSs/iQiIZ7Fa/EaW0MWgAEmYjBgimGBhxANV6pkdQzNOdionPS4CJbhZOa4E1WnVH"
    "oxY+PY7WiDyGLHipMViVoa1CwC217e+ktro0yOW1azESSZ0IHTTdNZV5v67M64HXtvAVLR3GOm+K47kAJ8B4BquBVxYXdaGlELIE"
    "Eqh2FYb5nUwmKER+WfPS1P0DJZUFXYD9+1BdBf67up39EnKCDsudZRxIEn4P1tKrzvy75ruOohGDiyNmnS8R/ruYRXOSBy77MFQC"
    "aYR7xhn3SXg1GfNZx5TvTHGMae2iPJhegvA+oPVVjA=="
)
RSA_SHA256 = (
    "3."
    "RcwsfXY7CDsS0Ffp29JSG4ICe385xqpdYYBXsSnGYGEOQ+zq+brA6WAZc7Zka0V3SUPHe2X+dl1JgG6k9mXBFVsbqc3Fne64u8rq"
    "1FhxZI1e2+HcEWeVRU0z+nSz5B/0Y+Tiu5SuXG0PUhNRfSH3Um3El3xNPp7goi9kO9vwjj35R8v9WGrOA2UYG9KTWi9kKSIeVak7"
    "sMN4AogvWe7wxMd8EnGBolrA+T2Dt4SHRMVj+NXOjxG2KsYBPPXI2sq2SWKur/PQ+u9daJ8S0YVkdhYwqMTkq2t00KNwrNJcA8KQ"
    "UkQYct6wSYA25W+QiUqgpxqDQnnPLx+m/6EOnFI04g=="
)
