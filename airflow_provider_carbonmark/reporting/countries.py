"""Which countries are in the European Union, by the names that the market has for them, or their two letters of ISO 3166-1."""

from __future__ import annotations

from typing import Final

#: The 27 member states; right in November 2026, and since 1 February 2020.
_MEMBERS: Final = """
AT Austria; BE Belgium; BG Bulgaria; HR Croatia; CY Cyprus; CZ Czechia; CZ Czech Republic; DK Denmark; EE Estonia; FI Finland; FR France;
DE Germany; GR Greece; HU Hungary; IE Ireland; IT Italy; LV Latvia; LT Lithuania; LU Luxembourg; MT Malta; NL Netherlands;
NL The Netherlands; PL Poland; PT Portugal; RO Romania; SK Slovakia; SK Slovak Republic; SI Slovenia; ES Spain; SE Sweden
"""
#: Known, so that what is not known, such as "Several countries", is taken for neither.
_OTHERS: Final = """
AF Afghanistan; AL Albania; DZ Algeria; AD Andorra; AO Angola; AG Antigua and Barbuda; AR Argentina; AM Armenia; AU Australia;
AZ Azerbaijan; BS Bahamas; BH Bahrain; BD Bangladesh; BB Barbados; BY Belarus; BZ Belize; BJ Benin; BT Bhutan; BO Bolivia;
BO Bolivia, Plurinational State of; BA Bosnia and Herzegovina; BW Botswana; BR Brazil; BN Brunei; BN Brunei Darussalam;
BF Burkina Faso; BI Burundi; CV Cabo Verde; CV Cape Verde; KH Cambodia; CM Cameroon; CA Canada; CF Central African Republic; TD Chad;
CL Chile; CN China; CO Colombia; KM Comoros; CG Congo; CG Republic of the Congo; CG Congo, Republic of the;
CD Democratic Republic of the Congo; CD Congo, Democratic Republic of the; CD Congo, The Democratic Republic of the; CR Costa Rica;
CI Cote d'Ivoire; CI Côte d'Ivoire; CI Ivory Coast; CU Cuba; DJ Djibouti; DM Dominica; DO Dominican Republic; EC Ecuador; EG Egypt;
SV El Salvador; GQ Equatorial Guinea; ER Eritrea; SZ Eswatini; SZ Swaziland; ET Ethiopia; FJ Fiji; GA Gabon; GM Gambia; GM The Gambia;
GE Georgia; GH Ghana; GD Grenada; GT Guatemala; GN Guinea; GW Guinea-Bissau; GY Guyana; HT Haiti; HN Honduras; HK Hong Kong; IS Iceland;
IN India; ID Indonesia; IR Iran; IR Iran, Islamic Republic of; IQ Iraq; IL Israel; JM Jamaica; JP Japan; JO Jordan; KZ Kazakhstan;
KE Kenya; KI Kiribati; KP North Korea; KR South Korea; KR Korea, Republic of; KR Republic of Korea; XK Kosovo; KW Kuwait;
KG Kyrgyzstan; LA Laos; LA Lao People's Democratic Republic; LB Lebanon; LS Lesotho; LR Liberia; LY Libya; LI Liechtenstein;
MG Madagascar; MW Malawi; MY Malaysia; MV Maldives; ML Mali; MH Marshall Islands; MR Mauritania; MU Mauritius; MX Mexico;
FM Micronesia; MD Moldova; MD Moldova, Republic of; MC Monaco; MN Mongolia; ME Montenegro; MA Morocco; MZ Mozambique; MM Myanmar;
NA Namibia; NR Nauru; NP Nepal; NZ New Zealand; NI Nicaragua; NE Niger; NG Nigeria; MK North Macedonia; NO Norway; OM Oman; PK Pakistan;
PW Palau; PS Palestine; PA Panama; PG Papua New Guinea; PY Paraguay; PE Peru; PH Philippines; QA Qatar; RU Russia;
RU Russian Federation; RW Rwanda; KN Saint Kitts and Nevis; LC Saint Lucia; VC Saint Vincent and the Grenadines; WS Samoa;
SM San Marino; ST Sao Tome and Principe; SA Saudi Arabia; SN Senegal; RS Serbia; SC Seychelles; SL Sierra Leone; SG Singapore;
SB Solomon Islands; SO Somalia; ZA South Africa; SS South Sudan; LK Sri Lanka; SD Sudan; SR Suriname; CH Switzerland; SY Syria; TW Taiwan;
TJ Tajikistan; TZ Tanzania; TZ Tanzania, United Republic of; TZ United Republic of Tanzania; TH Thailand; TL Timor-Leste; TG Togo;
TO Tonga; TT Trinidad and Tobago; TN Tunisia; TR Turkey; TR Türkiye; TM Turkmenistan; TV Tuvalu; UG Uganda; UA Ukraine;
AE United Arab Emirates; GB United Kingdom; GB Great Britain; US United States; US United States of America; UY Uruguay; UZ Uzbekistan;
VU Vanuatu; VE Venezuela; VE Venezuela, Bolivarian Republic of; VN Vietnam; VN Viet Nam; YE Yemen; ZM Zambia; ZW Zimbabwe
"""


def _names(text: str) -> frozenset[str]:
    """Return the names in a list, and the letters before each."""
    entries = (entry.split(maxsplit=1) for entry in text.split(";"))
    return frozenset(" ".join(name.split()).casefold() for entry in entries for name in entry)


_EU, _ELSEWHERE = _names(_MEMBERS), _names(_OTHERS)


def is_in_eu(country: str | None) -> bool | None:
    """Tell whether a country is a member of the European Union; None where it is not stated, or no country that is known here."""
    name = " ".join((country or "").replace("\u2019", "'").split()).casefold()
    return True if name in _EU else False if name in _ELSEWHERE else None
