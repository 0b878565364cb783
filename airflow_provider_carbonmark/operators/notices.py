"""
What people read, by mail or chat, of a purchase that waits to be paid: Jinja templates for the fields of any Airflow notifier.

::

    SmtpNotifier(to="finance@example.com", subject=MAIL_SUBJECT, html_content=MAIL_HTML)
    SlackNotifier(channel="#carbon", text=SLACK_TEXT, unfurl_links=False)

They are for the ``notifiers`` of ``CarbonmarkAwaitPaymentOperator``, and of ``CarbonmarkHousekeepingOperator``, which reminds. The link in
them leads whoever has it to the payment page: send it to those who are to pay.
"""

from __future__ import annotations

from typing import Final

#: Plain text, in one line whatever the DAG's author wrote: a line break would end the header of a mail.
MAIL_SUBJECT: Final = (
    "{% if waiting_days is defined %}Waiting for {{ waiting_days }} days: {% endif %}Pay for {{ purchase.quantity_tonnes }} t CO2e, "
    "{{ (purchase.for_whom if purchase.months else checkout.beneficiary_name).split() | join(' ') }}"
)

_HOW_LONG = """\
{% if checkout.expires_at %}The payment page can be used until {{ checkout.expires_at[:16] | replace("T", " ") }} UTC; after that, \
{% if checkout.pay_url %}the same link leads to a new one.{% else %}ask for a new one under Required Actions in Airflow.{% endif %} \
{% endif %}To decline, go to Required Actions in Airflow."""

#: HTML.
MAIL_HTML: Final = (
    """\
<ul>
<li>Amount: {{ purchase.quantity_tonnes }} t CO2e</li>
{% if purchase.cost_usd %}<li>Cost: {{ purchase.cost_usd }} USD</li>{% endif %}
<li>Beneficiary: {{ checkout.beneficiary_name | e }}</li>
<li>Message: {{ checkout.retirement_message | e }}</li>
{% if checkout.test_mode %}<li>Test mode: nothing is retired</li>{% endif %}
</ul>
<p><a href="{{ (checkout.pay_url or checkout.checkout_url) | e }}">Open the payment page</a></p>
<p>"""
    + _HOW_LONG
    + "</p>\n"
)

#: Slack's own markup. doc: its text has three characters that are written otherwise, and a link is <address|words>.
SLACK_TEXT: Final = (
    """\
{% filter replace("&", "&amp;") | replace("<", "&lt;") | replace(">", "&gt;") -%}
*"""
    + MAIL_SUBJECT
    + """*
{%- if purchase.cost_usd %}
Cost: {{ purchase.cost_usd }} USD
{%- endif %}
Beneficiary: {{ checkout.beneficiary_name }}
Message: {{ checkout.retirement_message }}
{%- if checkout.test_mode %}
Test mode: nothing is retired
{%- endif %}
{%- endfilter %}
<{{ (checkout.pay_url or checkout.checkout_url) | replace("&", "&amp;") | replace("|", "%7C") | replace(">", "%3E") }}|Open the payment page>
"""
    + _HOW_LONG
)
